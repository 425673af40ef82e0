"""What deploy/ ships: checked by the tools it is for, and really run."""
