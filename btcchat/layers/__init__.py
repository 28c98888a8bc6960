"""Small neural parts that several rooms use."""
