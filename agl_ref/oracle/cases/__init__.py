"""The golden cases: what each is and why, how its values are made, the stored files, their export."""
