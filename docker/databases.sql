-- MLflow keeps its tables in a database of its own; the record's is made by POSTGRES_DB.
CREATE DATABASE mlflow;
