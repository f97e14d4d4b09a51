"""The only place with SQL: two databases behind one seam, and the queries over it."""
