"""Programs written by the policy, judged by hidden tests in the sandbox."""
