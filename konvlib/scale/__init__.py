"""What lies beyond one machine: Dask arrays, which the public functions take as they take arrays.

Nothing here is imported before a Dask array comes.
"""
