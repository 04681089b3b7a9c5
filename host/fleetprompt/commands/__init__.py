"""The commands of `fleetprompt`, one file for each family."""
