"""Requests and answers of OpenAI's protocol for language models."""
