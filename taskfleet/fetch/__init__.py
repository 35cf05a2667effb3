"""Fetches files from URLs that clients wrote and nobody vetted: `download`, from allowed addresses
only (`address`, `connect`), within the job's bytes and time (`budget`); `source`
is the form of a source."""
