"""GLM-4-Voice in torch: speech tokenizer, language model, speech decoder."""
