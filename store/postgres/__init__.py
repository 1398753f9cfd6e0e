"""The second engine: PostgreSQL, for any number of instances that share one store. Imported only when it is used."""
