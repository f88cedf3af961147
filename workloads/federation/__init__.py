"""Federated training: sites train one model on data that stay with them, and a coordinator combines their updates."""
