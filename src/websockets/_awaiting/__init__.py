"""What awaits, on any library: the functions of users decide what is waited for. The folder has no code of its own.

May know: ``await``. Must not know: asyncio, trio, front-ends.
"""
