"""Network architectures; every factory returns an fx-traceable `torch.nn.Module` that takes NCHW float32."""
