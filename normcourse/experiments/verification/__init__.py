"""The theory verified: closed forms, small networks, and faults of the released code, each measured again over seeds."""
