"""The wire to the GPU host: the OpenAI Realtime protocol. No torch."""
