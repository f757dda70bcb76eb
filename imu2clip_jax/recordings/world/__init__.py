"""The built-in world, file by file in reading order.

`motion` (head pose as a function of time, IMU by differentiation), `activities`
(what people do: motion, scene, attributes), `bouts` (who does what, when),
`sensor` (what an IMU makes of it, and its faults), `things` (shapes a picture
is made of), `props` (hands and tools of each activity), `scenes` (places),
`render` (the picture), `narration` (the words).
"""
