"""A second implementation, wrong ones made of it, and the test that golden cases tell them apart."""
