"""The controller manager: each controller looks at a frozen world, plans purely, and a thin loop applies the plan."""
