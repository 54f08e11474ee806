"""Following a study: the contract, and the mirror in MLflow. Importing this package does not load MLflow."""
