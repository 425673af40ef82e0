"""The demo page in a real browser: with a real broker that is fed, killed and cut off, and with a scripted one.

Everything that waits here waits for a condition, in the page or in a process.
"""
