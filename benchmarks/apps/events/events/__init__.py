"""Events of a town: Django with translations, sessions in the database, and a calendar."""
