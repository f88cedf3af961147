"""How people and automation get access: certificates and second factors."""
