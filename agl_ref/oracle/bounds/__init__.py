"""The reference's values with derived error bounds, and the margins of its spikes and windows."""
