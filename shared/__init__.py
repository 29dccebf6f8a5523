"""What the ETL and the web app both stand on: settings, database, migrations, logs. The smallest possible."""
