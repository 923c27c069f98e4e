"""addnorm_exp: ablation experiments on the residual connection and the normalisation of Transformers."""
