"""From windows on disk to batches on devices."""
