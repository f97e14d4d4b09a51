"""What a user of the package can observe, rule by rule, on both databases and in both flavours."""
