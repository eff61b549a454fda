"""A chat in asyncio, to compare with gochat. Run it: python -m examples.asyncio_chat :8080"""
