// Broken: nobody receives. Go reports that all goroutines are asleep.
package main

import "fmt"

func main() {
	greetings := make(chan string)
	fmt.Println("main sends")
	greetings <- "hello"
	fmt.Println("main goes on")
}
