"""The pure heart of Isthmus: names, the model, and every decision. No clocks, no sockets, no asyncio."""
