"""Where mail can come from: one module each; `mailserver.transfer.model.Origin` is what they have in common."""
