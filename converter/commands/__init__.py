"""The converter's commands beside `convert`, one module for each; none imports anything heavy until it runs."""
