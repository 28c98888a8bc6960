"""Small neural parts that several folders use."""
