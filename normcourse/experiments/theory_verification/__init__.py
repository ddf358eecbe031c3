"""The theory verified: closed forms, small networks, and faults of the released code, measured over seeds."""
