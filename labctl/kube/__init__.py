"""The wire, shared by every part: resources, codec, selectors, errors, client, informer."""
