"""What everything stands on: files, locks, random streams, clocks. Knows no learning."""
