"""The course on top of normlib: experiments and their records, claims, exercises, interactive figures, modes."""
