"""How the policies behind the local locomotion sets were trained."""
