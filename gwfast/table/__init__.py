"""The table: one flat image of what runs. Its layout, who writes it, and who checks it."""
