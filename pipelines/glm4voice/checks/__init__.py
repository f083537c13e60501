"""What conformance compares, part by part."""
