"""What several test files share: one module a concept."""
