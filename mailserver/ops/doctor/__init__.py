"""What can be wrong: `machine` looks at the machine and the settings, `mail` at one account.

Each check yields findings. What a check can put right without doubt, ``--fix`` does; everything else it leaves alone.
"""
