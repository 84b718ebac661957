"""Learned parts that methods share; every model carries a leading axis of seeds."""
