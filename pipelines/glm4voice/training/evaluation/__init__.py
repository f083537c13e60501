"""What the trained chain can do, measured in calls through the real sessions."""
