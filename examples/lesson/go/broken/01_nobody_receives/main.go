// Broken: nobody receives, and Go sees that no goroutine can go on.
package main

import "fmt"

func main() {
	greetings := make(chan string)
	fmt.Println("main sends")
	greetings <- "hello"
	fmt.Println("main goes on")
}
