"""Trains a small GLM-4-Voice: corpus, speech tokenizer, decoder, language model, evaluation."""
