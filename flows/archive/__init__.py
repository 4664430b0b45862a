"""Event archives: what a source handed over, read again by time.

Written with the checkpoint (flows.runtime.committer), kept in the state store (flows.state.archive_store).

source     an archive as a Source: opened with a window, surveyed   → reader
reader     chunk after chunk, on a thread of its own                → pieces
pieces     a chunk's events of a window and a shard, with places that resume (pure)
verifying  reads every checksum
"""
