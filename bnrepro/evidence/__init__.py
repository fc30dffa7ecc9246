"""What claims are made of: arms, measurements of their runs, statistics, exhibits, the judge."""
