"""The line: Twilio and G.711. No torch, no Pipecat, no database, no settings."""
