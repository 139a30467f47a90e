"""Images in memory: data sets, batches, subsets, and where their files are sought."""
