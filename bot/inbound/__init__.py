"""Inbound calls: what answers Twilio, from its webhooks to the end of a stream."""
