"""Who clients are and what they may do: tokens, API keys, certificates, a callout, and rules made into rights.

Everything here serves one face, `core.interfaces.Gate`, which `authority.Authority` has. Nothing of it is asked
per message: rights are made once, when a client connects or shows another token.
"""
