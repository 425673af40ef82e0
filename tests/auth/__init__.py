"""Who clients are: each kind of credential, and rules made into rights."""
