"""Fine-tuning: texts and labels in, a tuned sentence-transformers model out; knows no estimator."""
