"""Where other libraries expect to meet a probe or an estimator; each module needs its library."""
